{#- Written by `softcart derive`; do not edit. The lines that have a model int_<line>__<what>. -#}
{% macro contributors(what) %}
    {% do return({
        'customer_versions': ['inspire', 'shop', 'telecom'],
        'devices': ['shop'],
        'locations': ['shop'],
    }[what]) %}
{% endmacro %}
