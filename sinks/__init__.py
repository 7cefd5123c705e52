"""Redshifts out: the result record, its schemas, and one file per destination."""
