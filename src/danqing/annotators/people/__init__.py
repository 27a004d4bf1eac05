"""People in pictures: bodies, faces and hands by MediaPipe's networks, drawn in the conventions ControlNets know.

The networks are the .tflite files that the package mediapipe 0.10.14 carries (Apache-2.0). `ai-edge-litert` runs them;
what stands before and behind them (anchors, regions, refinement) follows MediaPipe's published graphs.
"""
