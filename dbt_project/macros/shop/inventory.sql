{#-
  fct_inventory_daily reaches back this many days. After a change, build it with --full-refresh.
-#}
{% macro inventory_days() %}90{% endmacro %}
