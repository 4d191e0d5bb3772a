-- users
CREATE TABLE public.users (
  id serial PRIMARY KEY,
  name text
);
CREATE INDEX i ON users(name);
CREATE VIEW v AS SELECT * FROM users;
CREATE FUNCTION f(a int) RETURNS int AS $$
BEGIN
  RETURN a;
END;
$$ LANGUAGE plpgsql;
INSERT INTO users VALUES (1, 'a;b');
SELECT count(*) FROM users;
