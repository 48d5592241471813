{#-
  Values out of documents. A field may be missing or of another type than in the other documents:
  the value is then null, never an error. Documents are relaxed Extended JSON: a Decimal128 is
  {"$numberDecimal": "…"}, a date {"$date": "…"}.

  The doubled parentheses are for column lineage:
  without them sqlglot takes an arrow in a call for a lambda.
-#}

{#- The text of a string, number or ObjectId. -#}
{% macro json_text(field) -%}
    case
        when jsonb_typeof(({{ field }})) in ('string', 'number') then ({{ field }}) #>> '{}'
        else coalesce(({{ field }}) ->> '$oid', ({{ field }}) ->> '$numberDecimal')
    end
{%- endmacro %}

{#-
  A number below `limit` in size, numeric; written as a number, an Extended JSON number or a
  string, with or without an exponent. A Decimal128 has up to 34 digits and an exponent of up to
  four.
-#}
{% macro json_number(field, limit) -%}
    {%- set text -%}
        coalesce(
            ({{ field }}) ->> '$numberDecimal',
            ({{ field }}) ->> '$numberLong',
            ({{ field }}) #>> '{}'
        )
    {%- endset -%}
    case
        when {{ text }} ~ '^-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,4})?$'
            then case when abs(({{ text }})::numeric) < {{ limit }} then ({{ text }})::numeric end
    end
{%- endmacro %}

{#-
  A date of MongoDB, timestamptz. Before 1970 it is a number of milliseconds. MongoDB has years that
  PostgreSQL does not: those are null.
-#}
{% macro json_timestamp(field) -%}
    {%- set milliseconds -%}
        {{ json_number("(" ~ field ~ ") -> '$date'", limit="2e14") }}
    {%- endset -%}
    case
        when ({{ field }}) ->> '$date' ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}T'
            then (({{ field }}) ->> '$date')::timestamptz
        else timestamptz '1970-01-01 00:00+00' + ({{ milliseconds }}) * interval '1 millisecond'
    end
{%- endmacro %}

{#- The value if it is of that JSON type, jsonb. -#}
{% macro json_of_type(field, type) -%}
    case when jsonb_typeof(({{ field }})) = '{{ type }}' then ({{ field }}) end
{%- endmacro %}
