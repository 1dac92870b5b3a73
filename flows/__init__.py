"""The pipeline file, the DAG, the Prefect flow and the command line. The only room that imports prefect."""
