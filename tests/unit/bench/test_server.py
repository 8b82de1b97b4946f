from runbook_lib.bench.server import Snapshot, _totals, changes, parse_metrics


def statistics(count, queue_ns):
    part = {"count": count, "ns": count * queue_ns}
    inference = {"success": part, "fail": {"count": 0, "ns": 0}, "queue": part}
    entry = {"name": "m", "version": "1", "execution_count": count, "inference_stats": inference}
    idle = {"name": "idle", "version": "1", "inference_stats": {}}
    return _totals({"model_stats": [entry, idle]})


def test_statistics_are_the_growth_between_two_readings():
    found = changes(Snapshot(statistics(10, 1000)), Snapshot(statistics(30, 2000)), None)
    # 20 requests, 30 * 2000 - 10 * 1000 ns in the queue.
    assert found == {"m.success": 20, "m.fail": 0, "m.executions": 20, "m.queue_ms": 0.0025}


def test_gauges_are_those_of_half_time_and_energy_is_a_difference():
    page = (
        "# HELP nv_energy_consumption joules\n"
        'nv_energy_consumption{{gpu_uuid="GPU-1"}} {joules}\n'
        'nv_trt_llm_request_metrics{{model="m",request_type="waiting"}} {waiting}\n'
        'other_total{{a="b"}} 7\n'
        "nv_cpu_utilization NaN\n"
    )
    before, amid, after = (
        Snapshot(metrics=parse_metrics(page.format(joules=joules, waiting=waiting)))
        for joules, waiting in ((5, 0), (9, 12), (25.5, 0))
    )
    assert changes(before, after, amid) == {
        "nv_energy_consumption{GPU-1}": 20.5,
        "nv_trt_llm_request_metrics{m,waiting}": 12,
    }


def test_a_server_that_tells_nothing_gives_nothing():
    assert changes(Snapshot(), Snapshot(), None) == {}
