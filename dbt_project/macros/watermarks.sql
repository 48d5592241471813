{#-
  High-water marks: for each incremental fact and each raw table it follows, until which _loaded_at it has seen that table.
  One mark per table, not one per fact: tables load side by side, and a load may commit after a later one of another table.
  The mark moves in the transaction that writes the fact, so that a killed run repeats its changes.
-#}
{% macro create_watermarks() %}
    create schema if not exists dbt_state;
    create table if not exists dbt_state.watermarks (
        model text not null,
        changed_table text not null,
        seen_until timestamptz not null,
        seen_before timestamptz not null,
        primary key (model, changed_table)
    )
{% endmacro %}

{#-
  Pre-hook of an incremental fact: moves its marks up to what `changes` (columns changed_table, _loaded_at) holds now, and keeps the
  marks of the run before for `changed_since_last_run`. What arrives between here and the fact's own query is done twice, not lost.
-#}
{% macro advance_watermarks(changes) %}
    insert into dbt_state.watermarks as mark (model, changed_table, seen_until, seen_before)
    select '{{ this.identifier }}', changed_table, max(_loaded_at), '-infinity'
    from {{ changes }}
    group by changed_table
    on conflict (model, changed_table) do update
        set seen_until = excluded.seen_until, seen_before = mark.seen_until
{% endmacro %}

{#- The rows of `changes` that the fact has not seen. -#}
{% macro changed_since_last_run(changes) %}
    select change.*
    from {{ changes }} as change
    left join dbt_state.watermarks as mark
        on mark.model = '{{ this.identifier }}' and mark.changed_table = change.changed_table
    where change._loaded_at > coalesce(mark.seen_before, '-infinity')
{% endmacro %}
