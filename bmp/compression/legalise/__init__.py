"""Rewrites that give a network layers which techniques know, and are proven to change no answer."""
