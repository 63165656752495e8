"""All benchmarks, one after another: `make bench`."""

from benchmarks import dispatching, engine, html, latency, many, output, snapshot, workspace

if __name__ == "__main__":
    for benchmark in (snapshot, workspace, dispatching, output, latency, html, many, engine):
        print(f"\n## {benchmark.__name__.rpartition('.')[2]}\n", flush=True)
        benchmark.main()
