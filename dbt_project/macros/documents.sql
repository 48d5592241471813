{#-
  The keys of the documents in a collection, as a query: _id and _id_type as ingestion writes them,
  and document_key, one text that tells them apart. 5 and "5" are two documents, and the text of both
  is 5. It stays that of the document that is not deleted. If neither is, it stays that of the
  string, because other sources write the keys of documents as text. The other document's key names
  the type: `5 (int)`.
-#}
{% macro document_keys(collection) %}
    select
        _id,
        _id_type,
        case
            when
                row_number() over (
                    partition by _id
                    order by _deleted, _id_type <> 'string', _id_type
                ) = 1
                then _id
            else _id || ' (' || _id_type || ')'
        end as document_key
    from {{ collection }}
{% endmacro %}

{#- The join of a query's documents with their keys: `collection` is an alias, `keys` a CTE. -#}
{% macro join_document_keys(collection, keys) -%}
    left join {{ keys }}
    on {{ collection }}._id = {{ keys }}._id and {{ collection }}._id_type = {{ keys }}._id_type
{%- endmacro %}

{#- The same for the document that a field of theirs has the key of. -#}
{% macro join_referenced_keys(field, keys) -%}
    left join {{ keys }}
    on
        {{ json_text(field) }} = {{ keys }}._id
        and case
            when jsonb_typeof(({{ field }})) = 'number' then 'int'
            when ({{ field }}) ->> '$oid' is not null then 'objectId'
            else 'string'
        end = {{ keys }}._id_type
{%- endmacro %}
