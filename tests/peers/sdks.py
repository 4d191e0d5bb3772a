# What the official SDKs send: one model call by Langfuse's, two events by OpenMeter's, to the address that is given.
import datetime
import sys

kind, url = sys.argv[1:]
if kind == "langfuse":
    from langfuse import Langfuse, propagate_attributes

    client = Langfuse(public_key="pk-lf-1", secret_key="sk-lf-1", base_url=url, environment="staging", release="1.2.3", flush_at=1)
    with propagate_attributes(user_id="anna", session_id="run-1", trace_name="skill", metadata={"organization_id": "engines"}):
        with client.start_as_current_observation(as_type="span", name="skill"):
            with client.start_as_current_observation(
                as_type="generation", name="chat claude-x", model="claude-x", model_parameters={"max_tokens": 100, "temperature": 0.5},
                input=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
            ) as generation:
                generation.update(
                    output="Fine.", usage_details={"input": 10, "output": 5, "total": 15}, cost_details={"input": 0.003, "output": 0.0003, "total": 0.0033},
                    completion_start_time=datetime.datetime.now(datetime.timezone.utc),
                )
            with client.start_as_current_observation(as_type="generation", name="chat claude-x", model="claude-x") as generation:
                generation.update(level="ERROR", status_message="API_ERROR")
    client.flush()
    client.shutdown()
else:
    from openmeter import Client
    from openmeter.models import Event

    client = Client(endpoint=url, token="om-key")
    at = datetime.datetime(2026, 3, 1, 12, 30, tzinfo=datetime.timezone.utc)
    client.events.ingest_events([
        Event(id=str(n), source="kijko", specversion="1.0", type="kijko.api_calls", subject="engines", time=at, data={"value": n}) for n in (1, -1)
    ])
