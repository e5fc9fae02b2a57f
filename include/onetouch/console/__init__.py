"""Pages inside the Airflow UI: announced, not built yet. `plugins/` will register what stands here."""
