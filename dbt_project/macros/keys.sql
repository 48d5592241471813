{#-
  A surrogate key from a natural key: the same on every rebuild. It is the hash of a JSON array, in
  which null and '', 5 and '5', or ['a|b', 'c'] and ['a', 'b|c'] are not alike.
-#}
{% macro surrogate_key(columns) -%}
    md5(jsonb_build_array({{ columns | join(', ') }})::text)::uuid
{%- endmacro %}

{#-
  The surrogate key of one version of an SCD2 row, whose `natural_key` is a list of columns. The
  epoch's text depends on no session setting.
-#}
{% macro version_key(natural_key, valid_from) -%}
    {{ surrogate_key(natural_key + ['extract(epoch from ' ~ valid_from ~ ')']) }}
{%- endmacro %}

{#-
  A text that is another one after each change of what makes the keys of rows, see `incremental.sql`.
  Comments and indentation make no keys. Nobody has to build facts anew for a word in them.
-#}
{% macro key_formula() -%}
    {%- set made_by =
        version_key(['id', 'name'], 'valid_from') ~ scd2_versions('history', 'id', ['name'])
    -%}
    {{ local_md5(modules.re.sub('--.*', '', made_by).split() | join(' ')) }}
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

{#-
  Whether the time of an event is plausible: in the calendar, and not after the row was loaded. "Now"
  is the time of the load. A mistyped year must not become the latest day of everything. A day is
  allowed, because some shops write their local time.
-#}
{% macro is_dated_plausibly(instant, loaded_at) -%}
    {{ instant }} >= '{{ var("calendar_start") }} 00:00+00'
    and {{ instant }} < '{{ var("calendar_end") }} 00:00+00'
    and {{ instant }} <= {{ loaded_at }} + interval '24 hours'
{%- endmacro %}

{#-
  The key of dim_date for the time of an event: its day in `zone`, an expression. If the time is
  implausible or the zone null, it is the unknown date.
-#}
{% macro date_key(instant, loaded_at, zone="'UTC'") -%}
    coalesce(
        case
            when {{ is_dated_plausibly(instant, loaded_at) }}
                then ({{ instant }} at time zone {{ zone }})::date
        end,
        {{ unknown_date() }}
    )
{%- endmacro %}

{#- The unknown member of dim_date. -#}
{% macro unknown_date() -%}
    '1900-01-01'::date
{%- endmacro %}

{#- The key of dim_time_of_day for an instant, in `zone`, an expression. Null if that is. -#}
{% macro time_of_day_key(instant, zone="'UTC'") -%}
    floor(extract(epoch from ({{ instant }} at time zone {{ zone }})::time) / 60)::integer
{%- endmacro %}

{#- Whether PostgreSQL itself refuses two rows of a relation that share these columns. -#}
{% macro is_unique_by_index(relation, columns) %}
    {%- if not execute -%}
        {{ return(false) }}
    {%- endif -%}
    {%- set found = run_query(
        "select 1 as found from pg_index where indrelid = to_regclass('" ~ relation ~ "')"
        ~ " and indisunique and indisvalid and indimmediate and indpred is null"
        ~ " and indnkeyatts = indnatts and array["
        ~ "'" ~ columns | sort | join("', '") ~ "'] = (select array_agg(attname::text order by attname)"
        ~ " from pg_attribute where attrelid = indrelid and attnum = any(indkey))"
    ) -%}
    {{ return(found | length > 0) }}
{% endmacro %}
