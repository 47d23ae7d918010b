"""The log as Parquet files for a warehouse. Needs pyarrow, which nothing that serves imports: see docs/analytics.md."""
