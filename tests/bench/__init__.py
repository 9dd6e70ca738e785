"""Measurements that `make bench` takes. They assert nothing: a number depends on the machine, a ratio less so."""
