{#-
  Views are replaced in place. dbt's own way swaps a new view in and drops the old one with every view
  that reads it: to build one staging view alone would take the intermediate models with it.
  PostgreSQL replaces a view in place only if its columns stay and new ones come last. For any other
  change the old view goes, with what reads it.
-#}
{% materialization view, adapter='postgres' %}
    {%- set target = this.incorporate(type='view') -%}
    {%- set existing = load_cached_relation(this) -%}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {%- if existing is not none and not is_extended_by(existing, sql) -%}
        {%- do adapter.drop_relation(existing) -%}
    {%- endif -%}
    {% call statement('main') -%}
        {{ get_create_view_as_sql(target, sql) | replace('create view', 'create or replace view', 1) }}
    {%- endcall %}
    {%- do persist_docs(target, model) -%}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {{ adapter.commit() }}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [target]}) }}
{% endmaterialization %}

{#- Whether a view has the columns that a query begins with, in their order and of their types. -#}
{% macro is_extended_by(relation, query) %}
    {%- if not relation.is_view -%}
        {{ return(false) }}
    {%- endif -%}
    {%- set queried = adapter.get_column_schema_from_query(get_empty_subquery_sql(query)) -%}
    {%- set present = adapter.get_column_schema_from_query(
        get_empty_subquery_sql('select * from ' ~ relation)
    ) -%}
    {%- set begin = queried[: present | length] -%}
    {{ return(
        (begin | map(attribute='name') | list) == (present | map(attribute='name') | list)
        and (begin | map(attribute='dtype') | list) == (present | map(attribute='dtype') | list)
    ) }}
{% endmacro %}
