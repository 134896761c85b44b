"""What the graphs of a SavedModel may compute. Whatever is not in these tables is refused."""

_ARITHMETIC = """
Abs AccumulateNV2 Acos Acosh Add AddN AddV2 All Angle Any ApproximateEqual ArgMax ArgMin Asin Asinh Atan Atan2 Atanh
BatchMatMul BatchMatMulV2 BatchMatMulV3 Betainc Bincount Bucketize Cast Ceil ClipByValue Complex ComplexAbs Conj Cos
Cosh Cross Cumprod Cumsum CumulativeLogsumexp DenseBincount Digamma Div DivNoNan Equal Erf Erfc Erfinv EuclideanNorm
Exp Expm1 Floor FloorDiv FloorMod Greater GreaterEqual HistogramFixedWidth Igamma Igammac Imag Inv InvGrad IsFinite
IsInf IsNan Less LessEqual Lgamma LinSpace Log Log1p LogicalAnd LogicalNot LogicalOr MatMul Max Maximum Mean Min
Minimum Mod Mul MulNoNan Ndtri Neg NextAfter NotEqual Polygamma Pow Prod Range Real RealDiv Reciprocal ReciprocalGrad
Rint Round Rsqrt RsqrtGrad SegmentMax SegmentMaxV2 SegmentMean SegmentMin SegmentMinV2 SegmentProd SegmentProdV2
SegmentSum SegmentSumV2 Select SelectV2 Sigmoid SigmoidGrad Sign Sin Sinh SparseSegmentMean SparseSegmentSqrtN
SparseSegmentSum Sqrt SqrtGrad Square SquaredDifference Sub Sum Tan Tanh TanhGrad TruncateDiv TruncateMod
UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentProd UnsortedSegmentSum Xdivy Xlog1py Xlogy Zeta BitwiseAnd
BitwiseOr BitwiseXor Invert LeftShift PopulationCount RightShift BesselI0 BesselI0e BesselI1 BesselI1e FFT FFT2D FFT3D
FFTND IFFT IFFT2D IFFT3D IFFTND IRFFT IRFFT2D IRFFT3D IRFFTND RFFT RFFT2D RFFT3D RFFTND Cholesky Einsum
MatrixDeterminant MatrixInverse MatrixSolve MatrixTriangularSolve LogMatrixDeterminant Qr SelfAdjointEigV2 Svd
"""

_NEURAL = """
AvgPool AvgPool3D AvgPool3DGrad AvgPoolGrad BiasAdd BiasAddGrad BiasAddV1 Conv Conv2D Conv2DBackpropFilter
Conv2DBackpropInput Conv3D Conv3DBackpropFilterV2 Conv3DBackpropInputV2 DataFormatDimMap DataFormatVecPermute
DepthwiseConv2dNative DepthwiseConv2dNativeBackpropFilter DepthwiseConv2dNativeBackpropInput Dilation2D Elu EluGrad
FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 FusedBatchNormGradV3 FusedPadConv2D InTopKV2 L2Loss LRN LeakyRelu
LeakyReluGrad LogSoftmax MaxPool MaxPool3D MaxPool3DGrad MaxPoolGrad MaxPoolV2 MaxPoolWithArgmax NthElement Relu Relu6
Relu6Grad ReluGrad Selu SeluGrad Softmax SoftmaxCrossEntropyWithLogits Softplus SoftplusGrad Softsign SoftsignGrad
SparseSoftmaxCrossEntropyWithLogits TopK TopKV2 ApproxTopK BlockLSTM BlockLSTMV2 GRUBlockCell LSTMBlockCell CudnnRNN
CudnnRNNV2 CudnnRNNV3 CudnnRNNParamsSize FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars
FakeQuantWithMinMaxVarsPerChannel QuantizeAndDequantize QuantizeAndDequantizeV2 QuantizeAndDequantizeV3
QuantizeAndDequantizeV4 QuantizeV2 Dequantize AdjustContrastv2 AdjustHue AdjustSaturation CombinedNonMaxSuppression
CropAndResize DrawBoundingBoxesV2 HSVToRGB ImageProjectiveTransformV2 ImageProjectiveTransformV3 NonMaxSuppressionV3
NonMaxSuppressionV4 NonMaxSuppressionV5 RGBToHSV ResizeArea ResizeBicubic ResizeBilinear ResizeNearestNeighbor
ScaleAndTranslate ExtractImagePatches ExtractVolumePatches
"""

_ARRAYS = """
BatchToSpace BatchToSpaceND Bitcast BroadcastArgs BroadcastGradientArgs BroadcastTo CheckNumerics CheckNumericsV2
Concat ConcatOffset ConcatV2 ConjugateTranspose Const DepthToSpace Diag DiagPart DynamicPartition DynamicStitch Empty
EnsureShape ExpandDims Fill Gather GatherNd GatherV2 Identity IdentityN InvertPermutation ListDiff LowerBound
MatrixBandPart MatrixDiag MatrixDiagPart MatrixDiagPartV2 MatrixDiagPartV3 MatrixDiagV2 MatrixDiagV3 MatrixSetDiag
MatrixSetDiagV2 MatrixSetDiagV3 MirrorPad OneHot OnesLike Pack Pad PadV2 ParallelDynamicStitch Placeholder
PlaceholderV2 PlaceholderWithDefault PreventGradient Rank Reshape Reverse ReverseSequence ReverseV2 Roll ScatterNd
Shape ShapeN Size Slice Snapshot SpaceToBatch SpaceToBatchND SpaceToDepth Split SplitV Squeeze StopGradient
StridedSlice StridedSliceGrad TensorScatterAdd TensorScatterMax TensorScatterMin TensorScatterSub TensorScatterUpdate
TensorStridedSliceUpdate Tile Transpose Unique UniqueV2 UniqueWithCounts UniqueWithCountsV2 Unpack UnravelIndex
UpperBound Where ZerosLike
"""

_RANDOM = """
Multinomial ParameterizedTruncatedNormal RandomGamma RandomPoissonV2 RandomShuffle RandomStandardNormal RandomUniform
RandomUniformInt TruncatedNormal StatelessMultinomial StatelessRandomBinomial StatelessRandomGammaV2
StatelessRandomGammaV3 StatelessRandomGetAlg StatelessRandomGetKeyCounter StatelessRandomGetKeyCounterAlg
StatelessRandomNormal StatelessRandomNormalV2 StatelessRandomPoisson StatelessRandomUniform
StatelessRandomUniformFullInt StatelessRandomUniformFullIntV2 StatelessRandomUniformInt StatelessRandomUniformIntV2
StatelessRandomUniformV2 StatelessShuffle StatelessTruncatedNormal StatelessTruncatedNormalV2 RngReadAndSkip RngSkip
StatefulStandardNormalV2 StatefulTruncatedNormal StatefulUniform StatefulUniformFullInt StatefulUniformInt
"""

_FLOW = """
Assert Case DeviceIndex Enter Exit FakeParam For If LoopCond Merge NextIteration NoOp PartitionedCall
StatefulPartitionedCall StatelessCase StatelessIf StatelessWhile Switch ToBool While EmptyTensorList TensorListConcat
TensorListConcatV2 TensorListElementShape TensorListFromTensor TensorListGather TensorListGetItem TensorListLength
TensorListPopBack TensorListPushBack TensorListReserve TensorListResize TensorListScatter TensorListScatterV2
TensorListSetItem TensorListSplit TensorListStack TensorArrayCloseV3 TensorArrayConcatV3 TensorArrayGatherV3
TensorArrayReadV3 TensorArrayScatterV3 TensorArraySizeV3 TensorArraySplitV3 TensorArrayV3 TensorArrayWriteV3 _Arg
_Retval
"""

_VARIABLES = """
AssignAddVariableOp AssignSubVariableOp AssignVariableOp DisableCopyOnRead ReadVariableOp ResourceGather
ResourceGatherNd VarHandleOp VarIsInitializedOp VariableShape
"""

_BACKWARD = """
BlockLSTMGrad BlockLSTMGradV2 CropAndResizeGradImage CudnnRNNBackprop CudnnRNNBackpropV2 CudnnRNNBackpropV3
FakeQuantWithMinMaxVarsGradient FakeQuantWithMinMaxVarsPerChannelGradient FusedBatchNormGrad GRUBlockCellGrad LRNGrad
LSTMBlockCellGrad MaxPoolGradV2 MaxPoolGradWithArgmax MirrorPadGrad ResizeBicubicGrad ResizeBilinearGrad
ResizeNearestNeighborGrad ScaleAndTranslateGrad
"""

OPERATIONS = frozenset(f"{_ARITHMETIC}{_NEURAL}{_ARRAYS}{_RANDOM}{_FLOW}{_VARIABLES}{_BACKWARD}".split())
"""Compute numbers from numbers, and reach no file, no network, no Python and no other machine."""

_SAVER = "RestoreV2 SaveV2 ShardedFilename MergeV2Checkpoints StringJoin StaticRegexFullMatch RegexFullMatch"
SAVER_OPERATIONS = frozenset(_SAVER.split())
"""Read and write the variables; only in the two functions that the saver calls with the path it is given."""

_FILES = """
ReadFile WriteFile MatchingFiles ImmutableConst WholeFile TextFile LookupTableExport Save Restore Print TextLine
TFRecord FixedLengthRecord CSVDataset Sql Summary Checkpoint DatasetSnapshot Lmdb FileSystem DebugIdentity
DebugNumericSummary ShardedFile
"""
REACHES = {
    "a file": tuple(_FILES.split()),
    "the network": ("Rpc", "DataService", "Send", "Recv", "Collective", "Nccl", "Distributed", "RemoteCall"),
    "Python": ("PyFunc",),
    "a program made for one machine": ("Xla", "TPU", "Tpu", "CustomCall"),
    "data sets": ("Dataset", "Iterator", "Reader", "Queue", "Stage"),
    "tables of words": ("Table", "Lookup"),
    "the process itself": ("Abort",),
}
"""What operations with such words in their names reach, for the message; that they are refused needs no word."""
