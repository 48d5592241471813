"""Made-up data for the sources of every line of business, and live traffic on them.

`seed_data.common` serves every line. A line of business takes part with a package of its own,
`seed_data.<line>`, named like its folder under `softcart_assets/lines/`. The package has one public
name, `SEED`, a `LineSeed`. This is a whole package for a line with a MySQL source `clinic` and a
MongoDB source `files`. A file `clinic.sql` next to it has the statement `CREATE TABLE visits (…);`.

    import pyarrow as pa

    from seed_data.common.model import LineSeed, Output, documents
    from seed_data.common.parameters import Parameters


    def generate(parameters: Parameters, output: Output) -> None:
        visits = pa.table({"id": [1, 2], "reason": ["cough", None]})
        output.write("clinic.visits", visits)
        output.write("files.letters", documents([{"_id": 1, "text": "Get well soon"}]))


    SEED = LineSeed(generate)

`softcart seed` makes exactly the tables that the line declares for its sources. It finds the
databases by the settings of the sources. It creates MySQL's tables with `<source>.sql`, and an
index on the cursor of a collection. For a folder, each row is a file, see
`seed_data.common.folder`. If a line also has traffic, it gives `LineSeed` a second argument. See
`seed_data.common.traffic`.
"""
