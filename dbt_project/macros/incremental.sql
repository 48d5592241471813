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

{#- The rows of `changes`, with columns changed_table and _version, that the fact has not applied. -#}
{% macro changed_since_last_run(changes) %}
    select change.*
    from {{ changes }} as change
    left join dbt_state.watermarks as mark
        on mark.model = '{{ this.identifier }}' and mark.raw_table = change.changed_table
    where change._version > coalesce(mark.seen_before, -1)
{% endmacro %}

{#-
  Whether an incremental model is built from scratch, called by dbt's materialization and by
  `is_incremental`. It is so, too, if the table has keys of another formula than today's: after an
  upgrade, new rows would have other keys than the ones beside them.
-#}
{% macro should_full_refresh() %}
    {%- if dbt.should_full_refresh() or model.config.materialized != 'incremental' -%}
        {{ return(dbt.should_full_refresh()) }}
    {%- endif -%}
    {{ return(tables_with_other_keys([this.identifier]) | length > 0) }}
{% endmacro %}

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
  Post-hook of every table: it has keys of today's formula. Not earlier, because dbt asks
  `should_full_refresh` again after it has written the table.
-#}
{% macro note_key_formula() %}
    {%- if model.config.materialized != 'view' -%}
    insert into dbt_state.key_formulas as noted (model, formula)
    values ('{{ this.identifier }}', '{{ key_formula() }}')
    on conflict (model) do update set formula = excluded.formula
    {%- endif -%}
{% endmacro %}

{#-
  The `columns` of the fact's rows that a dimension now answers otherwise than when they were
  written: its row arrived late, a new version begins before them, or it is gone. Only natural
  keys in the CTE dimension_changes are compared. `key` is the surrogate key, named alike on both
  sides; `instant` is the fact's time, none for a dimension without versions. `line` is the fact's
  line of business, for a dimension that is a union over the lines.
-#}
{% macro rows_with_stale_key(columns, dimension, natural_key, key, instant=none, line=none) %}
    select {% for column in columns %}fact.{{ column }}{{ ", " if not loop.last }}{% endfor %}

    from {{ this }} as fact
    left join {{ dimension }} as dimension
        on dimension.{{ natural_key }} = fact.{{ natural_key }}
        {% if line %}and dimension.line_of_business = '{{ line }}'{% endif %}

        {% if instant %}and {{ is_valid_at('dimension', instant) }}{% endif %}

    where
        fact.{{ natural_key }} in (select {{ natural_key }} from dimension_changes)
        and fact.{{ key }} <> coalesce(dimension.{{ key }}, {{ unknown_key() }})
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
  change. `values` are the columns that say whether a row differs from the one with its `key`.
-#}
{% macro rows_to_write(made, key, values) %}
    select made.*
    from {{ made }} as made
    {%- if is_incremental() %}

    left join {{ this }} as written
        on
            {%- for column in key %}
            {{ 'and ' if not loop.first }}made.{{ column }} = written.{{ column }}
            {%- endfor %}

    where
        (made.{{ values | join(', made.') }})
        is distinct from (written.{{ values | join(', written.') }})
    {%- endif %}
{% endmacro %}
