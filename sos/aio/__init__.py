"""Helpers over Twisted that know nothing of SOS."""
