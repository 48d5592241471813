"""Made-up data for the sources of every line of business, and live traffic on them.

`seed_data.common` holds what any line uses. A line of business takes part with a package of its
own, `seed_data.<line>`, named like its folder under `softcart_assets/lines/`. The package offers
one name, `SEED`, a `LineSeed`. For a line with a MySQL source `clinic` and a MongoDB source `files`
this is a whole package, beside a file `clinic.sql` with `CREATE TABLE visits (…);`:

    import pyarrow as pa

    from seed_data.common.model import LineSeed, Output, documents
    from seed_data.common.parameters import Parameters


    def generate(parameters: Parameters, output: Output) -> None:
        visits = pa.table({"id": [1, 2], "reason": ["cough", None]})
        output.write("clinic.visits", visits)
        output.write("files.letters", documents([{"_id": 1, "text": "Get well soon"}]))


    SEED = LineSeed(generate)

`softcart seed` makes the tables that the line declares for its sources, no more and no fewer.
It finds the databases by the sources' settings, creates MySQL's tables with `<source>.sql`, and
indexes the cursor of collections. A line that also offers traffic gives `LineSeed` a second
argument, see `seed_data.common.traffic`.
"""
