"""Prints a script for sqlite3 :memory: that makes, changes, joins and sums tables."""
import random

rng = random.Random(3)
print("create table item(id integer primary key, name text, weight int);")
print("create table link(a int, b int, note text);")
print("create index link_a on link(a); create index item_name on item(name);")
print("with recursive n(i) as (select 1 union all select i + 1 from n where i < 40000) "
      "insert into item select i, printf('item %d %s', i, hex(i * 7919)), i * 31 % 1009 from n;")
for step in range(110):
    print("begin;")
    for _ in range(1500):
        a, b = rng.randrange(1, 40000), rng.randrange(1, 40000)
        print(f"insert into link values({a},{b},'{'n' * (a % 50)}{b}');")
        if a % 3 == 0:
            print(f"update item set weight = weight + {b % 17}, name = name || '{a % 10}' "
                  f"where id = {b};")
    print("commit;")
    print(f"select {step}, count(*), sum(weight), sum(length(name)) from item;")
    print("select count(*), sum(i.weight * length(l.note)) from link l join item i on i.id = l.a;")
    print(f"delete from link where a % 110 = {step};")
