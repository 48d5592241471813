with recursive
own_keys as ({{ document_keys(source('raw_catalog', 'categories')) }}),

parent_keys as (select * from own_keys),

categories as (
    select
        coalesce(own_keys.document_key, documents._id) as category_id,
        {{ json_text("document -> 'name'") }} as category_name,
        coalesce(parent_keys.document_key, {{ json_text("document -> 'parent_id'") }})
            as parent_category_id,
        {{ json_timestamp("document -> 'updated_at'") }} as updated_at,
        documents._loaded_at
    from {{ source('raw_catalog', 'categories') }} as documents
    {{ join_document_keys('documents', 'own_keys') }}
    {{ join_referenced_keys("document -> 'parent_id'", 'parent_keys') }}
    where not documents._deleted
),

-- From the roots down. A category whose parent is missing is a root. A category that is its own
-- ancestor is never reached.
tree as (
    select
        category_id,
        1 as level,
        category_id as department_id,
        category_name as department_name,
        coalesce(category_name, category_id) as category_path
    from categories
    where
        not exists (
            select 1
            from categories as parents
            where parents.category_id = categories.parent_category_id
        )
    union all
    select
        categories.category_id,
        tree.level + 1 as level,
        tree.department_id,
        tree.department_name,
        tree.category_path || ' / ' || coalesce(categories.category_name, categories.category_id)
            as category_path
    from tree
    inner join categories on tree.category_id = categories.parent_category_id
)

select
    categories.category_id,
    categories.category_name,
    categories.parent_category_id,
    tree.level,
    tree.department_id,
    tree.department_name,
    tree.category_path,
    categories.updated_at,
    categories._loaded_at
from categories
left join tree on categories.category_id = tree.category_id
