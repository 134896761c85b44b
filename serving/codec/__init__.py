"""What people send, to arrays and back."""
