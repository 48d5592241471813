"""Receivers of the demo: they take mails and text messages, and a page shows them. This machine
only.
"""
