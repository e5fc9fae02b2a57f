import pytest


@pytest.fixture(scope="session")
def airflow_database():
    """Airflow's own tables, in the temporary home."""
    from airflow.utils import db

    db.initdb()


@pytest.fixture(scope="session")
def dags(airflow_database):
    """Every DAG of dags/ by id, as Airflow reads them."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag()
    assert bag.import_errors == {}
    return bag.dags
