"""All benchmarks, one after another: `make bench`."""

from benchmarks import dispatching, html, latency, snapshot, workspace

if __name__ == "__main__":
    for benchmark in (snapshot, workspace, dispatching, latency, html):
        print(f"\n## {benchmark.__name__.rpartition('.')[2]}\n", flush=True)
        benchmark.main()
