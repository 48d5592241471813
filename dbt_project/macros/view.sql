{#-
  Views are replaced in place. dbt's own way swaps a new view in and drops the old one with every view
  that reads it: to build one staging view alone would take the intermediate models with it.
  PostgreSQL replaces a view in place only if its columns stay and new ones come last. For any other
  change the old view goes, with what reads it.

  A view that is as its code made it stays: to replace it waits for everybody who reads it.
-#}
{% materialization view, adapter='postgres' %}
    {%- set target = this.incorporate(type='view') -%}
    {%- set existing = load_cached_relation(this) -%}
    {%- set code = local_md5(sql ~ model.contract.checksum ~ tojson(model.columns)) -%}
    {%- if existing is not none and is_as_made(existing, code) -%}
        {%- call noop_statement('main', 'UNCHANGED') -%}{{ sql }}{%- endcall -%}
        {{ return({'relations': [target]}) }}
    {%- endif -%}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {%- if existing is not none and not is_extended_by(existing, sql) -%}
        {%- do adapter.drop_relation(existing) -%}
    {%- endif -%}
    {% call statement('main') -%}
        {{ get_create_view_as_sql(target, sql) | replace('create view', 'create or replace view', 1) }}
    {%- endcall %}
    {%- do run_query(note_as_made(target, code)) -%}
    {%- do persist_docs(target, model, for_relation=False) -%}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {{ adapter.commit() }}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [target]}) }}
{% endmaterialization %}

{#-
  Whether a view has the columns that a query begins with, in their order and of their types. dbt's
  own columns of a query do not tell numeric(18, 2) from numeric(24, 2).
-#}
{% macro is_extended_by(relation, query) %}
    {%- if not relation.is_view -%}
        {{ return(false) }}
    {%- endif -%}
    {%- set columns -%}
        select attnum, attname, atttypid, atttypmod, attcollation from pg_attribute
        where attnum > 0 and attrelid
    {%- endset -%}
    {%- do run_query('create temporary view as_queried as ' ~ query) -%}
    {%- set lost = run_query(
        columns ~ " = '" ~ relation.include(database=false) ~ "'::regclass except "
        ~ columns ~ " = 'pg_temp.as_queried'::regclass"
    ) -%}
    {%- do run_query('drop view pg_temp.as_queried') -%}
    {{ return(lost | length == 0) }}
{% endmacro %}

{#-
  The comment on a view says of which code it was made, and what it was then. So a view that somebody
  else replaces is made again, and so is one whose columns got other types: the contract is checked
  then. So it has no place for the description of the model. Those of its columns are comments.
-#}
{% macro note_as_made(relation, code) %}
    do $$ begin execute format(
        'comment on view {{ relation.include(database=false) }} is %L',
        {{ as_made(relation, code) }}
    ); end $$
{% endmacro %}

{#- Whether a relation is the view that this code made. -#}
{% macro is_as_made(relation, code) %}
    {%- if not relation.is_view -%}
        {{ return(false) }}
    {%- endif -%}
    {%- set found = run_query(
        "select coalesce(obj_description('" ~ relation.include(database=false)
        ~ "'::regclass, 'pg_class') = " ~ as_made(relation, code) ~ ", false)"
    ) -%}
    {{ return(found.columns[0].values()[0]) }}
{% endmacro %}

{#- An expression: the code, and the view's query and columns as PostgreSQL keeps them. -#}
{% macro as_made(relation, code) -%}
    {%- set view = "'" ~ relation.include(database=false) ~ "'::regclass" -%}
    'dbt {{ code }} ' || (
        select md5(pg_get_viewdef({{ view }}) || string_agg(
            concat_ws(' ', attname, format_type(atttypid, atttypmod), attcollation), ', '
            order by attnum
        ))
        from pg_attribute where attrelid = {{ view }} and attnum > 0
    )
{%- endmacro %}
