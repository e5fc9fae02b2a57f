FROM python:3.11-slim-bookworm

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    AIRFLOW_HOME=/opt/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/onetouch/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/onetouch/plugins \
    PYTHONPATH=/opt/onetouch/include/airflow_config

# curl: health checks
RUN apt-get update \
    && apt-get install --yes --no-install-recommends curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 50000 --create-home onetouch

WORKDIR /opt/onetouch

COPY requirements.txt .
RUN pip install --no-cache-dir --requirement requirements.txt

COPY pyproject.toml README.md LICENSE ./
COPY include include
RUN pip install --no-cache-dir --no-deps . && rm -rf build include/onetouch.egg-info

COPY dags dags
COPY plugins plugins

# Volumes take the owner of the folder they cover.
RUN mkdir -p /lake /opt/airflow/logs /opt/airflow/auth && chown -R onetouch /lake /opt/airflow

USER onetouch
CMD ["airflow", "version"]
