"""All benchmarks, one after another: `make bench`."""

from benchmarks import dispatching, html, latency, output, snapshot, workspace

if __name__ == "__main__":
    for benchmark in (snapshot, workspace, dispatching, output, latency, html):
        print(f"\n## {benchmark.__name__.rpartition('.')[2]}\n", flush=True)
        benchmark.main()
