{#- A model's schema is its layer, verbatim: asset key and relation are then the same words. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ custom_schema_name or target.schema }}
{%- endmacro %}
