"""What every layer above may use: text, errors, the machine."""
