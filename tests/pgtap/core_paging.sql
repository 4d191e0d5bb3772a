-- A page of a list, in each way to request it.
begin;
select no_plan();

select is((select format('%s rows after %s, page %s', size, skipped, number) from private.page(p::jsonb, 20)), w, 'of ' || p)
from (values
  ('{}', '20 rows after 0, page 1'), ('{"page": 3}', '20 rows after 40, page 3'), ('{"page": 3, "pageSize": 7}', '7 rows after 14, page 3'),
  ('{"pageSize": 100}', '100 rows after 0, page 1'), ('{"pageSize": 1000000000000}', '100 rows after 0, page 1'),
  ('{"limit": 5, "offset": 12}', '5 rows after 12, page 3'), ('{"limit": 5, "pageSize": 9}', '5 rows after 0, page 1'),
  ('{"limit": "5", "offset": "0"}', '5 rows after 0, page 1'), ('{"limit": null, "offset": null, "page": null}', '20 rows after 0, page 1'),
  ('{"offset": 1e30}', '20 rows after 1000000000, page 50000001'), ('{"page": 1e30}', '20 rows after 1000000000, page 50000001')) v (p, w);
select is(tests.refusal(format('select private.page(%L, 20, 50, %L)', p, clamps)) ->> 'field', field, 'refused: ' || p)
from (values ('{"limit": 0}', true, 'limit'), ('{"pageSize": -1}', true, 'pageSize'), ('{"offset": -1}', true, 'offset'), ('{"page": 0}', true, 'page'),
  ('{"limit": "x"}', true, 'limit'), ('{"pageSize": 51}', false, 'pageSize'), ('{"limit": 51}', false, 'limit')) v (p, clamps, field);
select is((select size from private.page('{"limit": 51}', 20, 50)), 50, 'a size above the most is the most');

select * from finish();
rollback;
