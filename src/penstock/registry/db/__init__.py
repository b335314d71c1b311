"""The registry's database: engine, schema, migrations, and rows as records."""
