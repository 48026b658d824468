# Installs the client, moves the tree elsewhere, builds find_package/ against it and runs that.
# Variables: BUILD_DIR (of this project), SOURCE_DIR (of find_package/), WORK_DIR, VERSION, GENERATOR,
# CXX.
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE out ERROR_VARIABLE out)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${ARGN}:\n${out}")
  endif()
endfunction()

file(REMOVE_RECURSE ${WORK_DIR})
run(${CMAKE_COMMAND} --install ${BUILD_DIR} --component client --prefix ${WORK_DIR}/installed)
file(RENAME ${WORK_DIR}/installed ${WORK_DIR}/moved)

# Nothing that was installed may say where it was built or first installed.
file(GLOB_RECURSE texts ${WORK_DIR}/moved/*.cmake ${WORK_DIR}/moved/*.h)
list(LENGTH texts count)
if(count LESS 8)
  message(FATAL_ERROR "only ${count} files were installed: ${texts}")
endif()
foreach(file ${texts})
  file(READ ${file} text)
  foreach(path ${BUILD_DIR} ${SOURCE_DIR} ${WORK_DIR}/installed)
    string(FIND "${text}" "${path}" at)
    if(NOT at EQUAL -1)
      message(FATAL_ERROR "${file} mentions ${path}")
    endif()
  endforeach()
endforeach()

run(${CMAKE_COMMAND} -S ${SOURCE_DIR} -B ${WORK_DIR}/build -G ${GENERATOR}
    -DCMAKE_CXX_COMPILER=${CXX} -DCMAKE_PREFIX_PATH=${WORK_DIR}/moved -DWANTED_VERSION=${VERSION})
run(${CMAKE_COMMAND} --build ${WORK_DIR}/build)
run(${WORK_DIR}/build/consumer)
