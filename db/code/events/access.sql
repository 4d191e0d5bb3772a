-- Nothing is granted for writing: events come from triggers, numbers from the sequencer.
grant select on public.events to authenticated;
