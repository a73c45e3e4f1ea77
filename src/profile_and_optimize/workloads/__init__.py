"""What is sent: suites of workloads as data, where their texts come from, and the prompts drawn from them."""
