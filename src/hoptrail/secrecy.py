"""Secrecy: what looks like a secret is not passed on."""
