"""Engines: something that serves a model over the OpenAI API. Each is a file; this is the table of built-ins."""

BUILT_IN = {
    "vllm": "profile_and_optimize.engines.vllm:VllmEngine",
    "sglang": "profile_and_optimize.engines.sglang:SglangEngine",
    "transformers": "profile_and_optimize.engines.transformers_serve:TransformersEngine",
    "endpoint": "profile_and_optimize.engines.endpoint:EndpointEngine",
    "mock": "profile_and_optimize.engines.mock.engine:MockEngine",
}
