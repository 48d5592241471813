{#-
  What the incremental facts share: which rows changed since a fact's last run.

  A mark in dbt_state.watermarks says, for a model's table and a raw table, until which _version the
  model's table has applied the raw one. Versions are numbers of our own, because a clock may be set
  back. A model that reads views reads raw as it is. One that joins another model's table has only
  what that table has applied: a customer who is in raw, but not yet in dim_customer, was not joined.
  So its mark is the least over all ways from it to the raw table. One mark per raw table, not one
  per model: tables load side by side, and a load may commit after a later one of another table. A
  mark moves in the transaction that writes the table, so that a run that is killed does its changes
  again. The tables in dbt_state are made by the migrations in softcart_assets/warehouse_state/,
  before dbt is run.
-#}

{#-
  The ways from a model to raw tables: pairs of the model whose table is read on the way, none if
  there are only views, and the raw table's source. `node` is an entry of dbt's graph. A source
  without versions is not one of the raw tables that ingestion writes.
-#}
{% macro ways_to_raw(node) %}
    {%- set ways = [] -%}
    {%- for parent in node.depends_on.nodes -%}
        {%- if parent in graph.sources -%}
            {%- if '_version' in graph.sources[parent].columns -%}
                {%- do ways.append((none, graph.sources[parent])) -%}
            {%- endif -%}
        {%- else -%}
            {%- set model_read = graph.nodes[parent] -%}
            {%- set is_view = model_read.config.materialized == 'view' -%}
            {%- for table, source in ways_to_raw(model_read) -%}
                {%- do ways.append((table if is_view else model_read.alias, source)) -%}
            {%- endfor -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(ways) }}
{% endmacro %}

{#-
  Pre-hook of every table: moves its marks, and keeps those of the run before for
  `changed_since_last_run`. What arrives between here and the model's own query is done twice, not
  lost. Nothing for a view, or for a table that is made of no raw table.
-#}
{% macro advance_watermarks() %}
    {%- if execute and model.config.materialized != 'view' -%}
    {%- set ways = ways_to_raw(graph.nodes[model.unique_id]) -%}
    {%- set direct, joined = {}, [] -%}
    {%- for table, source in ways -%}
        {%- set raw_table = source.schema ~ '.' ~ source.identifier -%}
        {%- if table is none -%}
            {%- do direct.update({raw_table: api.Relation.create(
                schema=source.schema, identifier=source.identifier
            )}) -%}
        {%- else -%}
            {%- do joined.append("('" ~ table ~ "', '" ~ raw_table ~ "')") -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if ways -%}
    insert into dbt_state.watermarks as mark (model, raw_table, seen_until, seen_before)
    select
        '{{ this.identifier }}',
        raw_table,
        min(seen_until),
        -1
    from (
        {% for raw_table, relation in direct.items() %}
        select '{{ raw_table }}' as raw_table, coalesce(max(_version), -1) as seen_until
        from {{ relation }}
        {{ "union all" if joined or not loop.last }}
        {% endfor %}
        {% if joined %}
        select way.raw_table, coalesce(applied.seen_until, -1)
        from (values {{ joined | unique | join(', ') }}) as way (model, raw_table)
        left join dbt_state.watermarks as applied
            on way.model = applied.model and way.raw_table = applied.raw_table
        {% endif %}
    ) as ways
    group by raw_table
    on conflict (model, raw_table) do update
        set seen_until = excluded.seen_until, seen_before = mark.seen_until
    {%- endif -%}
    {%- endif -%}
{% endmacro %}

{#-
  The rows of `changes`, with columns changed_table and _version, that the fact has not applied.

  The marks are read now and written into the query as numbers. For a number, PostgreSQL knows how
  few rows come after it, and reads them by the index on `_version`. A model's query is written
  before its pre-hook moves the marks, a post-hook is written later: for that, `mark` is
  'seen_before'.
-#}
{% macro changed_since_last_run(changes, mark='seen_until') %}
    select change.*
    from {{ changes }} as change
    where
        {% for raw_table, version in applied_versions(mark).items() %}
        (change.changed_table = '{{ raw_table }}' and change._version > {{ version }}) or
        {% endfor %}
        false
{% endmacro %}

{#- The marks of this model by raw table. Of a table that it has not applied yet, it is -1. -#}
{% macro applied_versions(mark) %}
    {%- set versions = {} -%}
    {%- if execute -%}
    {%- for _, source in ways_to_raw(graph.nodes[model.unique_id]) -%}
        {%- do versions.update({source.schema ~ '.' ~ source.identifier: -1}) -%}
    {%- endfor -%}
    {%- set found = run_query(
        "select raw_table, " ~ mark ~ " from dbt_state.watermarks"
        ~ " where model = '" ~ this.identifier ~ "'"
    ) -%}
    {%- for row in found.rows -%}{%- do versions.update({row[0]: row[1] | int}) -%}{%- endfor -%}
    {%- endif -%}
    {{ return(versions) }}
{% endmacro %}

{#-
  Whether an incremental model is built from scratch, called by dbt's materialization and by
  `is_incremental`. It is so, too, if the table has keys of another formula than today's: after an
  upgrade, new rows would have other keys than the ones beside them. And it is so if a raw table is
  another one than then. Ingestion marks what is deleted, but of a table that was dropped, nobody
  knows which rows are gone.
-#}
{% macro should_full_refresh() %}
    {%- if dbt.should_full_refresh() or model.config.materialized != 'incremental' -%}
        {{ return(dbt.should_full_refresh()) }}
    {%- endif -%}
    {%- if tables_with_other_keys([this.identifier]) -%}
        {{ return(true) }}
    {%- endif -%}
    {%- set found = run_query(
        "select raw_tables = " ~ raw_tables_now() ~ " from dbt_state.key_formulas where model = '"
        ~ this.identifier ~ "'"
    ) -%}
    {{ return(not found.columns[0].values()[0]) }}
{% endmacro %}

{#- An expression: the raw tables of this model, as PostgreSQL knows them. -#}
{% macro raw_tables_now() -%}
    {%- set names = [] -%}
    {%- for _, source in ways_to_raw(graph.nodes[model.unique_id]) -%}
        {%- do names.append("to_regclass('" ~ source.schema ~ '.' ~ source.identifier ~ "')") -%}
    {%- endfor -%}
    array[{{ names | unique | sort | join(', ') }}]::oid[]
{%- endmacro %}

{#- Those of the tables, names of models, that were not built with today's formula of keys. -#}
{% macro tables_with_other_keys(tables) %}
    {%- set found = run_query(
        "select model from dbt_state.key_formulas where formula = '" ~ key_formula() ~ "'"
    ) -%}
    {{ return(tables | reject('in', found.columns[0].values()) | list) }}
{% endmacro %}

{#- The models whose tables a model reads itself or through views, as names. -#}
{% macro tables_read(node) %}
    {%- set tables = [] -%}
    {%- for parent in node.depends_on.nodes if parent in graph.nodes -%}
        {%- set model_read = graph.nodes[parent] -%}
        {%- if model_read.config.materialized == 'view' -%}
            {%- do tables.extend(tables_read(model_read)) -%}
        {%- else -%}
            {%- do tables.append(model_read.alias) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(tables) }}
{% endmacro %}

{#-
  Pre-hook of every table: an error if it joins a table whose keys have another formula. The two
  would not meet, and not all keys that a fact has come from there.
-#}
{% macro refuse_other_keys() %}
    {%- if execute and model.config.materialized != 'view' -%}
    {%- set old = tables_with_other_keys(tables_read(graph.nodes[model.unique_id]) | unique) -%}
    {%- if old -%}
    {%- do exceptions.raise_compiler_error(
        this.identifier ~ " joins tables that an earlier release built, and surrogate keys are made"
        ~ " in another way since: " ~ old | sort | join(', ') ~ ". Build these first, or the whole"
        ~ " warehouse."
    ) -%}
    {%- endif -%}
    {%- endif -%}
{% endmacro %}

{#-
  Post-hook of every table. A new one has no statistics, and the planner would join it as if it were
  tiny. Where a few rows are replaced they stay good, and autovacuum renews them.
-#}
{% macro analyze_if_new() %}
    {%- if model.config.materialized != 'view' and not is_incremental() -%}
    analyze {{ this }}
    {%- endif -%}
{% endmacro %}

{#-
  Post-hook of every table: it has keys of today's formula, and is made of today's raw tables. Not
  earlier, because dbt asks `should_full_refresh` again after it has written the table.
-#}
{% macro note_key_formula() %}
    {%- if execute and model.config.materialized != 'view' -%}
    insert into dbt_state.key_formulas as noted (model, formula, raw_tables)
    values ('{{ this.identifier }}', '{{ key_formula() }}', {{ raw_tables_now() }})
    on conflict (model) do update
        set formula = excluded.formula, raw_tables = excluded.raw_tables
    {%- endif -%}
{% endmacro %}

{#-
  The `columns` of the fact's rows that a dimension now answers otherwise than when they were
  written: its row arrived late, a new version begins before them, or it is gone. Only rows with a
  natural key in the CTE dimension_changes are compared, or rows that meet `or_rows`, a condition.
  So the fact is read once, and few rows are joined. `dimensions`: for each alias, its `relation`,
  `natural_key` and surrogate `key`, both named alike on both sides. `instant` is the fact's time,
  none for a dimension without versions. `line` is the fact's line of business, for a dimension that
  is a union over the lines. `joins` and `or_stale`: more joins, and what they show to be out of date.
-#}
{% macro rows_with_stale_key(columns, dimensions, or_rows='false', joins='', or_stale='false') %}
    select {% for column in columns %}fact.{{ column }}{{ ", " if not loop.last }}{% endfor %}

    from (
        select fact.*
        from {{ this }} as fact
        where
            {% for dimension in dimensions.values() %}
            fact.{{ dimension.natural_key }} in (
                select change.{{ dimension.natural_key }}
                from dimension_changes as change
                where change.{{ dimension.natural_key }} is not null
            ) or
            {% endfor %}
            {{ or_rows }}
    ) as fact
    {% for alias, dimension in dimensions.items() %}
    left join {{ dimension.relation }} as {{ alias }}
        on {{ alias }}.{{ dimension.natural_key }} = fact.{{ dimension.natural_key }}
        {% if dimension.line %}and {{ alias }}.line_of_business = '{{ dimension.line }}'{% endif %}

        {% if dimension.instant %}and {{ is_valid_at(alias, dimension.instant) }}{% endif %}

    {% endfor %}
    {{ joins }}
    where
        {% for alias, dimension in dimensions.items() %}
        fact.{{ dimension.key }} <> coalesce({{ alias }}.{{ dimension.key }}, {{ unknown_key() }}) or
        {% endfor %}
        {{ or_stale }}
{% endmacro %}

{#-
  A parenthesised query for a CTE: the rows of `relation`; in an incremental run only those whose
  `key` is in the CTE `touched`. Materialized, because the planner cannot know how few those are
  and would cut down last what it should cut down first.
-#}
{% macro only_touched(relation, key, touched) %}
    {%- if is_incremental() -%}
    materialized (
        select * from {{ relation }} where ({{ key }}) in (select {{ key }} from {{ touched }})
    )
    {%- else -%}
    (select * from {{ relation }})
    {%- endif -%}
{% endmacro %}

{#-
  The rows of the CTE `made`; in an incremental run only those that the table does not have already,
  as they are. What reads the table by difference would take a row that is written again for a
  change. `values` are the columns that say whether a row differs from the one with its `key`. Each
  row is looked up by the index of its key: PostgreSQL cannot know how few are made, and would read
  the whole table.
-#}
{% macro rows_to_write(made, key, values) %}
    select made.*
    from {{ made }} as made
    {%- if is_incremental() %}

    left join lateral (
        select *
        from {{ this }} as present
        where
            {%- for column in key %}
            {{ 'and ' if not loop.first }}present.{{ column }} = made.{{ column }}
            {%- endfor %}

        limit 1
    ) as written on true
    where
        (made.{{ values | join(', made.') }})
        is distinct from (written.{{ values | join(', written.') }})
    {%- endif %}
{% endmacro %}
