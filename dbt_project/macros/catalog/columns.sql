{#-
  The select list of a product document, for its current form and its versions. It reads the
  document and not the typed columns beside it: those come and go with the fields that the
  documents have. `catalog_product_keys` has the CTEs and `catalog_product_joins` the joins that it
  needs.
-#}
{% macro catalog_product_columns() %}
    coalesce(product_keys.document_key, products._id) as product_id,
    {{ json_text("document -> 'name'") }} as product_name,
    {{ json_text("document -> 'description'") }} as description,
    {{ json_text("document -> 'brand'") }} as brand,
    coalesce(category_keys.document_key, {{ json_text("document -> 'category_id'") }})
        as category_id,
    ({{ json_number("document -> 'vendor_id'", limit="1e18") }})::bigint as vendor_id,
    {{ json_text("document -> 'status'") }} as product_status,
    (({{ json_number("document #> '{price,amount_minor}'", limit="1e11") }}) / 100)::numeric(12, 2)
        as list_price_amount,
    (({{ json_number("document #> '{cost,amount_minor}'", limit="1e11") }}) / 100)::numeric(12, 2)
        as cost_amount,
    {{ json_text("document #> '{price,currency}'") }} as currency,
    coalesce(jsonb_array_length({{ json_of_type("document -> 'variants'", "array") }}), 0)
        as variant_count,
    {{ json_of_type("document -> 'attributes'", "object") }} as attributes,
    {{ json_of_type("document -> 'tags'", "array") }} as tags,
    ({{ json_number("document -> 'weight_grams'", limit="2e9") }})::integer as weight_grams,
    {{ json_timestamp("document -> 'created_at'") }} as created_at,
    {{ json_timestamp("document -> 'updated_at'") }} as updated_at,
    _loaded_at
{% endmacro %}

{% macro catalog_product_keys() %}
    product_keys as ({{ document_keys(source('raw_catalog', 'products')) }}),

    category_keys as ({{ document_keys(source('raw_catalog', 'categories')) }})
{% endmacro %}

{% macro catalog_product_joins() %}
    {{ join_document_keys('products', 'product_keys') }}
    {{ join_referenced_keys("document -> 'category_id'", 'category_keys') }}
{% endmacro %}
