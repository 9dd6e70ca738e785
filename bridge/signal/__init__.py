"""Signals: what is noticed about words before a person reads them, and decides nothing."""
