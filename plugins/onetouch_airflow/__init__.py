"""What every DAG shares: how tasks fail, what a run is for, how the library is opened. The only glue to Airflow.

It lies in the plugins folder because that is the one folder every Airflow process can import from: the workers
and the scheduler's callbacks as much as the DAG files.
"""
