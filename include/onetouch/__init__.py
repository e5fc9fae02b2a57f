"""Onetouch: product usage becomes the few sales conversations worth having; everyone else is left alone.

Plain Python. Never imports airflow, never reads the clock: every function takes `as_of`.
"""
