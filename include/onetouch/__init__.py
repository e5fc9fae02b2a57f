"""Onetouch: product usage becomes the few sales conversations worth having; everyone else is left alone.

The library never imports airflow and, except in the command line, never reads the clock: functions take `as_of` or
`now` as arguments.
"""
