{#-
  A surrogate key from the text of a natural key: the same on every rebuild. A null is an empty
  text.
-#}
{% macro surrogate_key(columns) -%}
    md5(
        {%- for column in columns -%}
        coalesce({{ column }}::text, ''){% if not loop.last %} || '|' || {% endif %}
        {%- endfor -%}
    )::uuid
{%- endmacro %}

{#-
  The surrogate key of one version of an SCD2 row, whose `natural_key` is a list of columns. The
  epoch's text depends on no session setting.
-#}
{% macro version_key(natural_key, valid_from) -%}
    {{ surrogate_key(natural_key + ['extract(epoch from ' ~ valid_from ~ ')']) }}
{%- endmacro %}

{#-
  A text key as a collation of MySQL that ignores case compares it: without case, and without
  spaces at the end. PostgreSQL tells 'A1' from 'a1 ', so both sides of a join need this. Accents
  count here. Collations named _ai_ci and utf8mb4_general_ci ignore them, too.
-#}
{% macro folded_key(column) -%}
    lower(rtrim({{ column }}, ' '))
{%- endmacro %}

{#- The key of the unknown member that every dimension has. -#}
{% macro unknown_key() -%}
    '00000000-0000-0000-0000-000000000000'::uuid
{%- endmacro %}

{#- The key of dim_date for an instant; an instant outside the calendar is the unknown date. -#}
{% macro date_key(instant) -%}
    case
        when
            {{ instant }} >= '{{ var("calendar_start") }} 00:00+00'
            and {{ instant }} < '{{ var("calendar_end") }} 00:00+00'
            then ({{ instant }} at time zone 'UTC')::date
        else {{ unknown_date() }}
    end
{%- endmacro %}

{#- The unknown member of dim_date. -#}
{% macro unknown_date() -%}
    '1900-01-01'::date
{%- endmacro %}

{#- The key of dim_time_of_day for an instant. -#}
{% macro time_of_day_key(instant) -%}
    floor(extract(epoch from ({{ instant }} at time zone 'UTC')::time) / 60)::integer
{%- endmacro %}
