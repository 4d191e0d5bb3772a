-- Events of Stripe are taken several at a time: private.take_stripe_events.
drop function if exists private.take_stripe_event(jsonb, boolean);

---- create above / drop below ----

select 1;
