"""Evidence: what is measured on an exported file, and put into an artifact."""
