"""``python -m loadtests``: the commands of the load tests."""

import argparse
import sys

from loadtests import (
    abuse,
    accelerators,
    agreement,
    bad_keys,
    bare,
    bench,
    columns,
    console,
    control,
    cut,
    drift,
    errors,
    exams,
    faults,
    guard,
    instructions,
    keys,
    monitor,
    outage,
    overload,
    page,
    perf_analyzer,
    rotate,
    scale,
    seasons,
    simulate,
    stall,
    start,
    streams,
    swap,
    tracing,
    tracing_windows,
    traffic,
    verdicts,
)
from loadtests.drill import command as rollout_drill
from loadtests.graphs import find_repository
from loadtests.models import MODELS


def _models(_: argparse.Namespace) -> int:
    for model in MODELS.values():
        print(find_repository(model))
    return 0


def main() -> int:
    """Parse the command line and run one command."""
    parser = argparse.ArgumentParser(prog="python -m loadtests", description="Load tests of Penstock.")
    commands = parser.add_subparsers(required=True)
    measure = commands.add_parser("bench", help="the benchmark report", description=bench.__doc__)
    bench.add_arguments(measure)
    measure.set_defaults(run=bench.main)
    running = commands.add_parser("bare", help="beside bare session.run in threads", description=bare.__doc__)
    bare.add_arguments(running)
    running.set_defaults(run=bare.main)
    analyzer = commands.add_parser(
        "perf-analyzer", help="Triton's own load tool against Penstock", description=perf_analyzer.__doc__
    )
    perf_analyzer.add_arguments(analyzer)
    analyzer.set_defaults(run=perf_analyzer.main)
    kill = commands.add_parser("kill", help="kill workers under steady load", description=faults.__doc__)
    faults.add_arguments(kill)
    kill.set_defaults(run=faults.main)
    swapping = commands.add_parser("swap", help="swap a large model under steady load", description=swap.__doc__)
    swap.add_arguments(swapping)
    swapping.set_defaults(run=swap.main)
    rotating = commands.add_parser("rotate", help="replace the certificate under load", description=rotate.__doc__)
    rotate.add_arguments(rotating)
    rotating.set_defaults(run=rotate.main)
    examining = commands.add_parser("exams", help="simulated exams of candidates", description=exams.__doc__)
    exams.add_arguments(examining)
    examining.set_defaults(run=exams.main)
    wrong = commands.add_parser("errors", help="simulated errors that follow each other", description=errors.__doc__)
    errors.add_arguments(wrong)
    wrong.set_defaults(run=errors.main)
    column = commands.add_parser("columns", help="simulated columns", description=columns.__doc__)
    columns.add_arguments(column)
    column.set_defaults(run=columns.main)
    seasonal = commands.add_parser("seasons", help="simulated seasons", description=seasons.__doc__)
    seasons.add_arguments(seasonal)
    seasonal.set_defaults(run=seasons.main)
    simulating = commands.add_parser("simulate", help="simulated rollouts", description=simulate.__doc__)
    simulate.add_arguments(simulating)
    simulating.set_defaults(run=simulate.main)
    judging = commands.add_parser("verdicts", help="simulated guards and intervals", description=verdicts.__doc__)
    verdicts.add_arguments(judging)
    judging.set_defaults(run=verdicts.main)
    drifting = commands.add_parser("drift", help="simulated drift", description=drift.__doc__)
    drift.add_arguments(drifting)
    drifting.set_defaults(run=drift.main)
    watching = commands.add_parser("monitor", help="what the monitor costs", description=monitor.__doc__)
    monitor.add_arguments(watching)
    watching.set_defaults(run=monitor.main)
    reading = commands.add_parser("streams", help="the monitor on real streams", description=streams.__doc__)
    streams.add_arguments(reading)
    reading.set_defaults(run=streams.main)
    routing = commands.add_parser("traffic", help="what routes and shadows cost", description=traffic.__doc__)
    traffic.add_arguments(routing)
    routing.set_defaults(run=traffic.main)
    keyed = commands.add_parser("keys", help="what a key costs at full load", description=keys.__doc__)
    keys.add_arguments(keyed)
    keyed.set_defaults(run=keys.main)
    tracked = commands.add_parser("tracing", help="what traces cost at full load", description=tracing.__doc__)
    tracing.add_arguments(tracked)
    tracked.set_defaults(run=tracing.main)
    text = "what traces cost a worker, switched on and off within it"
    switched = commands.add_parser("tracing-windows", help=text, description=tracing_windows.__doc__)
    tracing_windows.add_arguments(switched)
    switched.set_defaults(run=tracing_windows.main)
    failing = commands.add_parser("outage", help="a sink that is down or slow under load", description=outage.__doc__)
    outage.add_arguments(failing)
    failing.set_defaults(run=outage.main)
    crowding = commands.add_parser("overload", help="more than the server can do", description=overload.__doc__)
    overload.add_arguments(crowding)
    crowding.set_defaults(run=overload.main)
    watching = commands.add_parser("console", help="the cost of open pages of the console", description=console.__doc__)
    console.add_arguments(watching)
    watching.set_defaults(run=console.main)
    writing = commands.add_parser("page", help="the page of a benchmark report", description=page.__doc__)
    page.add_arguments(writing)
    writing.set_defaults(run=page.main)
    guarding = commands.add_parser("guard", help="whether it has become slower", description=guard.__doc__)
    guard.add_arguments(guarding)
    guarding.set_defaults(run=guard.main)
    counting = commands.add_parser(
        "instructions", help="what a request costs that comes alone", description=instructions.__doc__
    )
    instructions.add_arguments(counting)
    counting.set_defaults(run=instructions.main)
    starting = commands.add_parser("start", help="a cold start, and the memory of a gateway", description=start.__doc__)
    start.add_arguments(starting)
    starting.set_defaults(run=start.main)
    accelerating = commands.add_parser(
        "accelerators", help="OpenVINO beside ONNX Runtime's own provider", description=accelerators.__doc__
    )
    accelerators.add_arguments(accelerating)
    accelerating.set_defaults(run=accelerators.main)
    abusing = commands.add_parser("abuse", help="clients that misuse the server", description=abuse.__doc__)
    abuse.add_arguments(abusing)
    abusing.set_defaults(run=abuse.main)
    guessing = commands.add_parser("bad-keys", help="credentials that are not valid", description=bad_keys.__doc__)
    bad_keys.add_arguments(guessing)
    guessing.set_defaults(run=bad_keys.main)
    scaling = commands.add_parser("scale", help="two workers against one", description=scale.__doc__)
    scale.add_arguments(scaling)
    scaling.set_defaults(run=scale.main)
    sharing = commands.add_parser("control", help="what the control process costs", description=control.__doc__)
    control.add_arguments(sharing)
    sharing.set_defaults(run=control.main)
    cutting = commands.add_parser("cut", help="runs whose callers have no more time", description=cut.__doc__)
    cut.add_arguments(cutting)
    cutting.set_defaults(run=cut.main)
    stalling = commands.add_parser("stall", help="the largest legal requests of every kind", description=stall.__doc__)
    stall.add_arguments(stalling)
    stalling.set_defaults(run=stall.main)
    drilling = commands.add_parser(
        "rollout-drill", help="bad and good canaries on real gateways", description=rollout_drill.__doc__
    )
    rollout_drill.add_arguments(drilling)
    drilling.set_defaults(run=rollout_drill.main)
    agreeing = commands.add_parser(
        "agreement", help="penstock loadtest beside h2load and wrk2's correction", description=agreement.__doc__
    )
    agreement.add_arguments(agreeing)
    agreeing.set_defaults(run=agreement.main)
    models = commands.add_parser("models", help="write the models and print their folders")
    models.set_defaults(run=_models)
    arguments = parser.parse_args()
    code: int = arguments.run(arguments)
    return code


if __name__ == "__main__":
    sys.exit(main())
