{#-
  What the incremental facts share: which rows changed since a fact's last run.

  High-water marks say, for each fact and each raw table it follows, until which _version it has
  seen that table. Versions are numbers of our own, because a clock may be set back. One mark per
  table, not one per fact: tables load side by side, and a load may commit after a later one of
  another table. A mark moves in the transaction that writes the fact, so that a run that is killed
  does its changes again. The table dbt_state.watermarks is made by the migrations in
  softcart_assets/warehouse_state/, before dbt is run.
-#}

{#-
  Pre-hook of an incremental fact: moves its marks up to what `changes` (relations with columns
  changed_table and _version) hold now, and keeps those of the run before for
  `changed_since_last_run`. What arrives between here and the fact's own query is done twice, not
  lost.
-#}
{% macro advance_watermarks(changes) %}
    insert into dbt_state.watermarks as mark
        (model, changes, changed_table, seen_until, seen_before)
    {% for relation in changes %}
    select
        '{{ this.identifier }}',
        '{{ relation.identifier }}',
        changed_table,
        max(_version),
        -1
    from {{ relation }}
    group by changed_table
    {% if not loop.last %}union all{% endif %}
    {% endfor %}
    on conflict (model, changes, changed_table) do update
        set seen_until = excluded.seen_until, seen_before = mark.seen_until
{% endmacro %}

{#- The rows of `changes` that the fact has not seen. -#}
{% macro changed_since_last_run(changes) %}
    select change.*
    from {{ changes }} as change
    left join dbt_state.watermarks as mark
        on mark.model = '{{ this.identifier }}'
        and mark.changes = '{{ changes.identifier }}'
        and mark.changed_table = change.changed_table
    where change._version > coalesce(mark.seen_before, -1)
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
