{#-
  Values out of documents. A field may be missing or of another type than in the other documents:
  the value is then null, never an error. Documents are relaxed Extended JSON: a Decimal128 is
  {"$numberDecimal": "…"}, a date {"$date": "…"}.

  The doubled parentheses are for column lineage:
  without them sqlglot takes an arrow in a call for a lambda.
-#}

{#- The text of a string or number. -#}
{% macro json_text(field) -%}
    case when jsonb_typeof(({{ field }})) in ('string', 'number') then ({{ field }}) #>> '{}' end
{%- endmacro %}

{#-
  A number below `limit` in size, numeric; written as a number, an Extended JSON number or a
  string of digits.
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
        when {{ text }} ~ '^-?[0-9]{1,20}(\.[0-9]{1,20})?$'
            then case when abs(({{ text }})::numeric) < {{ limit }} then ({{ text }})::numeric end
    end
{%- endmacro %}

{#- A date of MongoDB, timestamptz. -#}
{% macro json_timestamp(field) -%}
    case
        when ({{ field }}) ->> '$date' ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}T'
            then (({{ field }}) ->> '$date')::timestamptz
    end
{%- endmacro %}

{#- The value if it is of that JSON type, jsonb. -#}
{% macro json_of_type(field, type) -%}
    case when jsonb_typeof(({{ field }})) = '{{ type }}' then ({{ field }}) end
{%- endmacro %}
