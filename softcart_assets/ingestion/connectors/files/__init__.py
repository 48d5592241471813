"""Files that arrive in a folder: late, several times, corrected, and with broken lines."""
