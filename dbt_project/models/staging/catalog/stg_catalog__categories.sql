with recursive
categories as (
    select
        _id as category_id,
        {{ json_text("document -> 'name'") }} as category_name,
        {{ json_text("document -> 'parent_id'") }} as parent_category_id,
        {{ json_timestamp("document -> 'updated_at'") }} as updated_at,
        _loaded_at
    from {{ source('raw_catalog', 'categories') }}
    where not _deleted
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
