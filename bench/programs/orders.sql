-- orders.sql - :orders orders of a tenth as many customers in memory: inserts, an index, joins.
CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT, city TEXT);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER, article TEXT, price REAL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :orders / 10)
INSERT INTO customer SELECT i, 'customer ' || i, 'city ' || (i * 7919 % 97) FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :orders)
INSERT INTO orders
SELECT i, 1 + i * 31 % (:orders / 10), 'article ' || (i * 7919 % 1009), i % 100 FROM n;
CREATE INDEX orders_customer ON orders (customer);
CREATE INDEX orders_article ON orders (article);
SELECT city, count(*), sum(price) FROM customer JOIN orders ON orders.customer = customer.id
GROUP BY city ORDER BY 3 DESC LIMIT 3;
SELECT article, group_concat(customer.name) AS names FROM orders
JOIN customer ON customer.id = orders.customer GROUP BY article ORDER BY length(names) DESC LIMIT 0;
UPDATE orders SET article = article || ' (sold)' WHERE price > 50;
DELETE FROM orders WHERE price < 20;
SELECT count(*), count(DISTINCT article) FROM orders;
