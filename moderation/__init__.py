"""The vault. Words come in by `gate.submit`, reach the desk by `queue`, and leave by `release.released`."""
